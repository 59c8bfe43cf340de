"""Which stage is trained on what, so that no model scores patients that it was trained on."""
