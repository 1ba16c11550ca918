"""What the attacker knows: the feature map, its activation, and what both say before anything is attacked."""
