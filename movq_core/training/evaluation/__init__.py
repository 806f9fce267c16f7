"""What `movq evaluate` measures, and the networks it measures with."""
