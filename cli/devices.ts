/** `afterimage agent devices`: what the agent serves, and who uses it. */
import type { Command } from 'commander';
import { agentControlService } from '../proto/control.js';
import { EXIT } from '../proto/errors.js';
import { WORK_MS_MAX, withDaemon } from './daemon_client.js';
import { jsonLine, jsonOf } from './json.js';
import { clientVerb, examples, type ClientOptions } from './option.js';
import type { Surroundings } from './surroundings.js';
import { painter, renderTable, type Column } from './table.js';
import { Verdict } from './verdict.js';

const COLUMNS: readonly Column[] = [
  { heading: 'GROUP/VOLUME', align: 'left' },
  { heading: 'DEVICE', align: 'left' },
  { heading: 'USED BY', align: 'left' },
];

interface DevicesOptions extends ClientOptions {
  unused?: true;
}

export function addDevices(agent: Command, surroundings: Surroundings): void {
  const devices = clientVerb(agent, 'devices', 'show the devices that the agent serves, and who uses them')
    .option('--unused', `end with status ${EXIT.busy} when somebody uses one of them`)
    .action((options: DevicesOptions) => run(options, surroundings));
  examples(devices, [
    ['afterimage agent devices', 'before a stop, which waits for whoever uses one'],
    [
      'afterimage agent devices --unused && systemctl stop afterimage-agent',
      'only if it does not have to wait',
    ],
  ]);
}

async function run(options: DevicesOptions, surroundings: Surroundings): Promise<void> {
  const { stdout, env, stop } = surroundings;
  const { devices } = await withDaemon('agent', options, surroundings, (client) =>
    client.callUnary(agentControlService.deviceUses, {}, { timeoutMs: WORK_MS_MAX, signal: stop.drain }),
  );
  if (options.json === true) stdout.write(jsonLine({ devices: devices.map(jsonOf) }));
  else {
    const rows = devices.map(({ group, volume, device, usedBy }) => [
      `${group}/${volume}`,
      device === '' ? '-' : device,
      usedBy === '' ? 'nobody' : usedBy,
    ]);
    stdout.write(renderTable(COLUMNS, rows, painter(stdout, env)));
  }
  if (options.unused === true && devices.some(({ usedBy }) => usedBy !== '')) throw new Verdict(EXIT.busy);
}
