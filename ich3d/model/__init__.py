"""A trained model: its folder, manifest, fold models and inference backends."""
