"""Looking at a process that runs: ``ferrio top``, ``why``, ``doctor`` and ``level``.

In the process that is looked at run only ``snapshot`` (what a loop writes down of itself, with ``tasks`` and
``resources``) and ``stacks`` (the signal by which every thread's stack can be had). Everything else runs in the process
of whoever looks, and reads files.
"""
