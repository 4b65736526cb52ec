"""What is done with a trained run: it is evaluated, used for predictions, exported."""
