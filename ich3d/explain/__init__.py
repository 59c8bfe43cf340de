"""Why a slice has its score."""
