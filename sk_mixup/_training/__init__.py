"""How an epoch of one net, or of a stack of nets, is computed; knows no skorch."""
