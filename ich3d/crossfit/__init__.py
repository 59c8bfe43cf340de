"""Which stage is trained on what, so that no model scores patients that it was trained on.

`stages` trains the three stages fold by fold, `inputs` says what each stage depends on,
`status` what a stage's folder records, `train` runs all of it and saves the model,
`out_of_fold` keeps the scores.
"""
