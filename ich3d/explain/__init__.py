"""Why a slice has its score: which slices moved a label's logit, and where the encoder looked.

`integrated_gradients` explains the context model, `grad_cam` the encoder, `explanation` puts both
together with the stacker's TreeSHAP values.
"""
