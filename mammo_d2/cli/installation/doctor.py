"""The command ``doctor``: what this installation can do, and what is wrong with it."""

from tabulate import tabulate

from mammo_d2.cli.arguments.command_line import EXIT_FAILED, EXIT_OK, make_parser
from mammo_d2.engine.installation_check import ERROR, check_installation

DESCRIPTION = """Look at the installation: engine, versions, DICOM decoders, GPUs, threads, extras, data sets.

Exit code 0: nothing will fail, 1: something will (state "error").

Every mammo-d2 command lets threads that wait sleep (OMP_WAIT_POLICY=PASSIVE) and starts no more of them than the quota
of its container has cores, unless OMP_WAIT_POLICY, GOMP_SPINCOUNT, KMP_BLOCKTIME or OMP_NUM_THREADS are set.

Example:
    mammo-d2 doctor
"""


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    make_parser(DESCRIPTION, "doctor").parse_args(argv)
    findings = list(check_installation())
    print(tabulate([[f.subject, f.state, f.text] for f in findings], tablefmt="plain", maxcolwidths=[None, None, 100]))
    return EXIT_FAILED if any(finding.state == ERROR for finding in findings) else EXIT_OK
