"""The offline plane: the lake's tables, what goes in, and training sets out of them."""
