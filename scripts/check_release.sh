#!/usr/bin/env bash
# Build the source distribution and the wheel of the last commit, install the wheel with the pinned versions in an
# empty environment, and try it there. Leaves both in dist/, and beside them a bill of materials of what was
# installed and SHA256SUMS. Set PYTHON to choose the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "1. Source distribution and wheel, which are the same bytes from any folder"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
git diff --quiet HEAD || echo "Uncommitted changes are no part of it."
"$python" -m venv "$work/build"
"$work/build/bin/python" -m pip install --quiet --disable-pip-version-check "setuptools>=77"
build() { # the sources in the folder $1, into the folder $2
    mkdir -p "$2"
    (cd "$1" && "$work/build/bin/python" scripts/build_release.py "$2" > "$work/build.log" 2>&1) ||
        { cat "$work/build.log"; exit 1; }
}
for folder in "$work/here" "$work/elsewhere/by another name"; do
    mkdir -p "$folder"
    git -c tar.umask=0022 archive HEAD | tar -x -C "$folder" # whatever umask somebody has set
    build "$folder" "$folder/dist"
done
rm -rf build dist
cp -r "$work/here/dist" dist
diff -r dist "$work/elsewhere/by another name/dist"
wheel=$(echo dist/ich3d-*.whl)
sdist=$(echo dist/ich3d-*.tar.gz)

mkdir "$work/unpacked"
tar -x -C "$work/unpacked" --strip-components 1 -f "$sdist"
(cd "$work/unpacked" && git -C "$OLDPWD" ls-files -z | xargs -0 ls -d > /dev/null) # every file is in it
build "$work/unpacked" "$work/again"
cmp "$wheel" "$work/again/$(basename "$wheel")"
"$python" -m venv "$work/venv"
"$work/venv/bin/python" - "$wheel" <<'CHECK'
import sys
import zipfile
from pathlib import Path

names = set(zipfile.ZipFile(sys.argv[1]).namelist())
wanted = {path.as_posix() for path in Path("ich3d").rglob("*") if path.is_file()}
wanted = {name for name in wanted if "__pycache__" not in name}
missing = sorted(wanted - names)
if missing:
    sys.exit(f"The wheel lacks {', '.join(missing)}.")

starter = [path for path in Path("ich3d/starter").rglob("*") if path.is_file()]
size = sum(path.stat().st_size for path in starter)
if not 0 < size <= 12_000_000:
    sys.exit(f"The starter model has {size / 1e6:.1f} MB; it must be there, and have at most 12 MB.")
CHECK

echo "2. An empty environment"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    -c constraints.txt "$wheel"

"$work/venv/bin/python" scripts/write_sbom.py > "${wheel%-py3-none-any.whl}.cdx.json"
(cd dist && sha256sum ich3d-* > SHA256SUMS)

echo "3. No packages for accelerators on a machine without one"
if ! command -v nvidia-smi > /dev/null; then
    found=$("$work/venv/bin/python" -m pip list --format=freeze | grep -iE '^(nvidia|cuda)' || true)
    if [ -n "$found" ]; then
        echo "These came along although this machine has no GPU; install the CPU build of torch"
        echo "as README.md says:"
        echo "$found"
        exit 1
    fi
fi

echo "4. The commands"
cd "$work" # away from the checkout, so that the installed package is the one that runs
ich3d="$work/venv/bin/ich3d"
"$ich3d" --version
"$ich3d" phantom -o phantoms --studies 1
"$ich3d" inspect phantoms
"$ich3d" doctor
"$ich3d" predict phantoms -o prediction --report # by the starter model
test -s prediction/slices.csv
test -s prediction/report/*.html
cd - > /dev/null
echo "The release is good:"
ls -l dist
