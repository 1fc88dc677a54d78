"""What is scored on: where texts come from, how they are drawn, and what identifies them."""
