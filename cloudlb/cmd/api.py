# SPDX-License-Identifier: Apache-2.0
"""``cloudlb-api``: the REST API in a process of its own, with a web server.

Other web servers load ``cloudlb.wsgi.api:application``.
"""

import sys

from cloudlb import conf as configuration
from cloudlb import service
from cloudlb.wsgi import server
from cloudlb.wsgi.api import make


@service.explained("cloudlb-api")
def main() -> int:
    """Serve until a signal; the exit status."""
    conf = configuration.load(sys.argv[1:], "cloudlb-api")
    service.prepare(conf, "cloudlb-api")
    server.check_address(conf)
    web = server.listen(conf, make(conf))
    process = service.Service("cloudlb-api")
    server.run(process, web)
    return process.run()


if __name__ == "__main__":
    sys.exit(main())
