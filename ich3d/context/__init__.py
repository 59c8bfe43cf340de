"""The context model: a bidirectional GRU over the embeddings of a whole series."""
