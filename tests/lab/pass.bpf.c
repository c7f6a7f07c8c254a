/* SPDX-License-Identifier: Apache-2.0 */
/* For the other end of a virtual link: without a program of its own it takes no frames that a
 * driver sends back.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int pass(struct xdp_md *frame)
{
	return XDP_PASS;
}
