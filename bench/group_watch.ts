/** What the agent says of the benched group, over one connection: a new process for each question would take longer than what is measured. */
import { agentControlService, type GroupStatus } from '../proto/control.js';
import { RpcClient } from '../service/rpc.js';
import type { Site } from '../test/scenario/site.js';

const ANSWER_MS_MAX = 10_000;

/** Runs `use` with the question; the connection ends with it. */
export async function watching<T>(
  site: Site,
  use: (status: () => Promise<GroupStatus>) => Promise<T>,
): Promise<T> {
  const client = await RpcClient.openControl(site.agentControl);
  try {
    return await use(async () => {
      const options = { timeoutMs: ANSWER_MS_MAX };
      const { groups } = await client.callUnary(agentControlService.status, {}, options);
      const group = groups[0];
      if (group === undefined) throw new Error('the agent has no group');
      return group;
    });
  } finally {
    client.close();
  }
}
