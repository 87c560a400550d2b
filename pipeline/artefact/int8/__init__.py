"""A float network and photographs → the same network in whole numbers of eight bits."""
