"""What a GPU will say of a file, asked without one."""
