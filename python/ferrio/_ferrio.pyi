# The native half is private: what users may rely on is said where it is exported.
__version__: str
