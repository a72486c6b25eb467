/** `afterimage volume insert|remove`: protection put under device-mapper volumes that are in use, and taken out again. */
import type { Command } from 'commander';
import { agentControlService } from '../proto/control.js';
import { confirm } from './confirmation.js';
import { withDaemon, WORK_MS_MAX } from './daemon_client.js';
import type { InsertionRequest } from './daemons.js';
import { jsonLine } from './json.js';
import {
  clientVerb,
  configFile,
  controlSocket,
  examples,
  subjectArgument,
  type ClientOptions,
} from './option.js';
import type { Surroundings } from './surroundings.js';
import { printable } from './table.js';

/** What the agent has in memory is written to a disk that may be slow. */
const RELEASE_MS_MAX = 1_800_000;

interface Subject {
  group: string;
  volume: string;
}
interface RemoveOptions extends ClientOptions {
  yes?: true;
}

export function addVolume(program: Command, surroundings: Surroundings): void {
  const volume = program
    .command('volume')
    .description('put protection under device-mapper volumes that are in use, and take it out again')
    .helpCommand(false);
  const insert = clientVerb(
    volume,
    'insert',
    'put protection under the mapped volumes of a group: what uses them goes on',
  )
    .argument('<subject>', 'GROUP, or GROUP/VOLUME if it is its only one', subjectArgument)
    .action((subject: Subject, options: ClientOptions) => insertVolumes(subject, options, surroundings));
  examples(insert, [
    ['afterimage volume insert shop', 'the device named by `mapped` in agent.toml stays mounted meanwhile'],
  ]);
  const remove = clientVerb(
    volume,
    'remove',
    'take protection out again, also after the agent was killed for good; what uses them goes on, unprotected',
  )
    .argument('<subject>', 'GROUP, or GROUP/VOLUME if it is its only one', subjectArgument)
    .option('--yes', 'without asking')
    .action((subject: Subject, options: RemoveOptions) => removeVolumes(subject, options, surroundings));
  examples(remove, [
    ['afterimage volume remove shop', 'asks first: what is written from then on is not captured'],
    ['afterimage volume remove shop --yes', 'where nobody can be asked'],
  ]);
}

async function insertVolumes(
  subject: Subject,
  options: ClientOptions,
  surroundings: Surroundings,
): Promise<void> {
  const { daemons, stdout } = surroundings;
  const devices = await daemons.insertVolumes(await request(subject, options, surroundings));
  if (options.json === true) stdout.write(jsonLine({ group: subject.group, inserted: devices }));
  else
    stdout.write(
      printable(`protection is under ${devices.join(', ')}; \`afterimage status\` shows the copy under way`) +
        '\n',
    );
}

async function removeVolumes(
  subject: Subject,
  options: RemoveOptions,
  surroundings: Surroundings,
): Promise<void> {
  const { daemons, stdout } = surroundings;
  const { group } = subject;
  const question = `Take protection out from under ${printable(group)}?`;
  const consequence =
    'nothing that is written from then on is captured, and the next insertion compares all of it';
  await confirm({ question, consequence, otherwise: 'nothing was done' }, options, surroundings);
  const devices = await daemons.removeVolumes(await request(subject, options, surroundings));
  if (options.json === true) stdout.write(jsonLine({ group, removed: devices }));
  else stdout.write(printable(`no protection is under ${devices.join(', ')} any more`) + '\n');
}

async function request(
  subject: Subject,
  options: ClientOptions,
  surroundings: Surroundings,
): Promise<InsertionRequest> {
  const { stop } = surroundings;
  const control = await controlSocket('agent', options, surroundings);
  const asked: ClientOptions = { control };
  return {
    config: configFile('agent', options.config, surroundings),
    subject,
    drain: stop.drain,
    agent: {
      // One that was just started again has its hands full.
      status: () =>
        withDaemon('agent', asked, surroundings, (client) =>
          client.callUnary(agentControlService.status, {}, { timeoutMs: WORK_MS_MAX, signal: stop.drain }),
        ),
      insert: (group) =>
        withDaemon('agent', asked, surroundings, (client) =>
          client.callUnary(
            agentControlService.volumesInsert,
            { group },
            { timeoutMs: WORK_MS_MAX, signal: stop.drain },
          ),
        ),
      // Their I/O waits until it is done: only a second signal ends that.
      release: async (group) => {
        await withDaemon('agent', asked, surroundings, (client) =>
          client.callUnary(
            agentControlService.volumesRelease,
            { group },
            { timeoutMs: RELEASE_MS_MAX, signal: stop.end },
          ),
        );
      },
    },
  };
}
