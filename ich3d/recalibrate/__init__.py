"""A model adapted to a hospital by its own labelled studies, which the model has never seen.

`cases` puts the scores of `ich3d predict` and labels together, and leaves out whom the model was
trained on; `gains` says what new scores gain on old ones; `fit` fits a scale and a shift of each
label's logits; `run` decides, and writes the new model. Training anew is `crossfit.retrain`.
"""
