"""What the filters of a network are doing: measured, said in words, and drawn."""
