"""A trained model.

`fold_model` is what one fold trained: encoder, context models, stacker. `folder` saves and
loads all folds, `manifest` says what a folder is and that it is whole, `info` shows that to
people, `backends` run the encoders on the fastest path that a machine has.
"""
