"""What a bundle is: read with the question of trust, and made from a plan."""
