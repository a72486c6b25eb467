/** `afterimage agent join|run|configcheck|devices|layouts`: the daemon of a protected host. */
import type { Command } from 'commander';
import { addConfigcheck, addRun } from './daemon_verb.js';
import { addDevices } from './devices.js';
import { addJoin } from './join.js';
import { jsonLine, jsonOf } from './json.js';
import { examples, jsonOption } from './option.js';
import type { Surroundings } from './surroundings.js';

const SUPERVISE = '--supervise';

export function addAgent(program: Command, surroundings: Surroundings): void {
  const agent = program.command('agent').description('the daemon on a protected host').helpCommand(false);
  const { daemons, stop, version } = surroundings;
  addJoin(agent, surroundings);
  const run = addRun(
    agent,
    'agent',
    'protect what the configuration names, until a signal',
    surroundings,
    (config, overrides) => daemons.runAgent(config, overrides, stop, version),
  );
  run
    .option(
      SUPERVISE,
      'run below a supervisor, which starts it again when it dies: production does not notice. Not needed under systemd',
    )
    .hook('preAction', async (command) => {
      if (command.opts<{ supervise?: true }>().supervise === true) await daemons.supervise(SUPERVISE);
    });
  examples(run, [
    ['afterimage agent run', 'with /etc/afterimage/agent.toml'],
    ['afterimage agent run --config ./agent.toml --log-level debug', 'with another, and telling more'],
    ['afterimage agent run --supervise', 'where there is no systemd'],
  ]);
  const check = addConfigcheck(agent, 'agent', surroundings, (config) => daemons.checkAgent(config));
  examples(check, [['afterimage agent configcheck --config ./agent.toml', 'before a restart']]);
  addDevices(agent, surroundings);
  const layouts = agent
    .command('layouts')
    .description('the versions of what a dead agent leaves in memory, as far as this one can go on with it')
    .addOption(jsonOption())
    .action(async (options: { json?: true }) => {
      const all = await daemons.agentLayouts();
      const lines = Object.entries(all).map(([kind, { oldest, written }]) =>
        oldest === written ? `${kind}: ${written}\n` : `${kind}: ${oldest} to ${written}\n`,
      );
      surroundings.stdout.write(options.json === true ? jsonLine(jsonOf({ layouts: all })) : lines.join(''));
    });
  examples(layouts, [
    ['afterimage agent layouts --json', 'what an agent asks before it hands over (SIGUSR2)'],
  ]);
}
