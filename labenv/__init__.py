"""A simulated site for TR-4004: a storage cluster and Hyper-V hosts that answer their real wires on loopback.

``start`` begins a lab that ends with this process, ``up`` one that stays, ``attach`` finds one that runs; the command
``labenv`` does the same in a terminal.
"""

from labenv.lab import Lab, LabError, attach, start, up

__all__ = ["Lab", "LabError", "attach", "start", "up"]
