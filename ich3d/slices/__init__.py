"""The slice encoder: HU of a slice and its neighbours to an embedding and six logits."""
