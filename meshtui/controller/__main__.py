"""`python -m meshtui.controller`: the background process."""

import sys

from meshtui.controller.detach import detach

if "--detach" in sys.argv:
    # Before the imports: whoever started us waits for this process to end.
    detach()

from meshtui.controller.daemon import main
from meshtui.controller.managers import local_managers

sys.exit(main(sys.argv[1:], local_managers))
