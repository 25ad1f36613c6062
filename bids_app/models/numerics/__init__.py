"""Mathematics that knows no quantity: fits, noise, resampling, combining, regions."""
