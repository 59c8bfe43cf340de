"""What each stage, and each kind of sequence context, is worth: rows over shared folds, with controls."""
