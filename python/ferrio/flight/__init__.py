"""The flight record outside of its process: saved, read again, and shown by other tools.

``log`` is the file (``.xlog``), ``steps`` makes sense of its records (who ran, why, how long it had been ready), and
``perfetto``, ``chrome``, ``events`` and ``lines`` write that down for others to read. ``commands`` are ``ferrio record``,
``dump`` and ``export``. Nothing here runs in a loop; what is recorded, and how, is the engine's.
"""
