"""From the expanded graph to what Cloud AI 100's compiler is given."""
