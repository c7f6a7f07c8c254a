# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ on the control host: Debian's package with files, names and ports of its own."""

import shutil
from pathlib import Path

from cloudlb.lab.host import Host
from cloudlb.lab.process import wait_for
from cloudlb.lab.service import ServiceSpec
from cloudlb.lab.topology import CONTROL

PORT = 5672
USER = "cloudlb"
PASSWORD = "cloudlb"  # noqa: S105 - the broker listens in the lab's namespace only
URL = f"rabbit://{USER}:{PASSWORD}@{CONTROL.management}:{PORT}/"
_HOME = "/var/lib/rabbitmq"

CONFIGURATION = f"""\
listeners.tcp.1 = {CONTROL.management}:{PORT}
default_user = {USER}
default_pass = {PASSWORD}
loopback_users = none
disk_free_limit.absolute = 1MB
log.console = true
log.console.level = warning
log.file = false
"""

RABBITMQ = ServiceSpec(
    "rabbitmq",
    (
        "setpriv",
        "--reuid=rabbitmq",
        "--regid=rabbitmq",
        "--init-groups",
        "/usr/lib/rabbitmq/bin/rabbitmq-server",
    ),
    {
        "HOME": _HOME,
        "RABBITMQ_NODENAME": "cloudlb@localhost",
        "RABBITMQ_CONFIG_FILE": f"{_HOME}/rabbitmq.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{_HOME}/enabled_plugins",
        "RABBITMQ_MNESIA_BASE": f"{_HOME}/mnesia",
        "RABBITMQ_LOG_BASE": f"{_HOME}/log",
        "RABBITMQ_PID_FILE": f"{_HOME}/pid",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        # The script becomes the server, so that the recorded process is the broker itself.
        "RUNNING_UNDER_SYSTEMD": "1",
    },
)


def start(host: Host) -> None:
    """Configure and start the broker; it takes about eight seconds to listen."""
    home = Path(f"{host.root}{_HOME}")
    home.mkdir()
    (home / "rabbitmq.conf").write_text(CONFIGURATION)
    (home / "enabled_plugins").write_text("[].\n")
    for path in (home, *home.iterdir()):
        shutil.chown(path, "rabbitmq", "rabbitmq")
    host.service(RABBITMQ.name).start()


def wait_ready(host: Host, seconds: float = 60) -> None:
    """Wait until the broker listens."""
    service = host.service(RABBITMQ.name)

    def listens() -> bool:
        service.must_run()
        return host.listens(PORT)

    wait_for("RabbitMQ listens", listens, seconds, f"see {service.log}")
