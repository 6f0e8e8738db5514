"""What all backends share: the request that functional.py makes and that every backend takes."""
