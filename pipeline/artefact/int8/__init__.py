"""A float network and photographs → the same network in eight-bit integers."""
