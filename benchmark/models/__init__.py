"""What papers share: backbones, encoding, the Lightning training loop, taggers."""
