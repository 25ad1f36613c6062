"""What can be made, what came of it, and what an earlier run left."""
