#!/usr/bin/env bash
# The steps of the container image. Containerfile calls them, and so does the test of the recipe, in an
# empty folder with an empty environment, where no container builder is needed.
#
#   container_steps.sh install cpu|cuda FOLDER   put ich3d of this checkout with all it needs into FOLDER
#   container_steps.sh check FOLDER              predict with it, from another folder and without a network
set -euo pipefail

install() {
    local variant=$1 folder=$2 extras=dicom
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    [ "$variant" = cuda ] || extras=dicom,openvino # OpenVINO is for CPUs
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir \
        -c constraints.txt ".[$extras]"

    local has=cpu
    if "$folder/bin/python" -m pip list --format=freeze | grep -qiE '^(nvidia|cuda)'; then
        has=cuda
    fi
    if [ "$has" != "$variant" ]; then
        echo "pip chose the $has build of torch for the variant $variant: PIP_EXTRA_INDEX_URL must be" \
            "torch's index of CPU builds for cpu, and not be set for cuda" >&2
        exit 2
    fi
}

check() {
    local ich3d=$1/bin/ich3d
    work=$(mktemp -d) # not local: the trap reads it after the function ended
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    "$ich3d" doctor
    "$ich3d" phantom -o study --studies 1
    "$ich3d" predict study -o out --report --dicom-heat # by the starter model
    test -s out/slices.csv
    test -s out/report/*.html
    test -s out/dicom/*.sr.dcm
}

case ${1-} in
    install | check) "$@" ;;
    *)
        echo "usage: container_steps.sh install cpu|cuda FOLDER, or check FOLDER" >&2
        exit 2
        ;;
esac
