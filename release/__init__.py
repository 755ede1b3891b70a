"""What is done with the package before it is published: built twice, compared, installed, tried."""
