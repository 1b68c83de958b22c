"""Files that are whole or not there, safetensors with a JSON header and a checksum, downloads.

May import: errors.
Never: what knows what a file is for; `atomic` starts without torch.
"""
