"""The command line: one module per command.

Importing any of it sets the defaults of threads, before torch is imported: so they hold for ``mammo-d2``, for
``python -m mammo_d2.cli...``, for the scripts of ``tools/`` and for the processes that these start.
"""

from mammo_d2.core.processes.threads import set_thread_defaults

set_thread_defaults()
