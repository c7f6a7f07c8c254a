# SPDX-License-Identifier: Apache-2.0
"""The lab's API, asked from its control host."""

import json
from typing import Any

from cloudlb.lab.errors import LabError
from cloudlb.lab.host import Host
from cloudlb.lab.services import ENDPOINT
from cloudlb.lab.topology import LAN, LAN_NETWORK4, LAN_NETWORK6, VIP_RANGE4, VIP_RANGE6


class Api:
    """Requests by curl; paths are those below ``/v1``."""

    def __init__(self, control: Host) -> None:
        self._control = control

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and body of an answer."""
        command = ["curl", "-s", "-m", "40", "-X", method, "-w", "\n%{http_code}"]
        if body is not None:
            command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        done = self._control.run([*command, f"{ENDPOINT}/v1{path}"])
        text, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(text) if text else None

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        """The body of an answer; a LabError when it is no success."""
        status, answer = self.request(method, path, body)
        if status >= 300:
            raise LabError(f"{method} {path}: {status} {answer}")
        return answer

    def network(self) -> str:
        """The id of the network of the lab's guests, which is made when it is missing."""
        found = self.ok("GET", f"/networks?name={LAN}")["networks"]
        if found:
            return str(found[0]["id"])
        spec = {
            "name": LAN,
            "prefixes": [str(LAN_NETWORK4), str(LAN_NETWORK6)],
            "vip_range": [str(VIP_RANGE4), str(VIP_RANGE6)],
        }
        return str(self.ok("POST", "/networks", {"network": spec})["network"]["id"])
