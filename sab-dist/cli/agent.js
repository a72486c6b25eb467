import { addConfigcheck, addRun } from './daemon_verb.js';
import { examples } from './option.js';
const SUPERVISE = '--supervise';
export function addAgent(program, surroundings) {
    const agent = program.command('agent').description('the daemon on a protected host').helpCommand(false);
    const { daemons, stop, version } = surroundings;
    const run = addRun(agent, 'agent', 'protect what the configuration names, until a signal', surroundings, (config, overrides) => daemons.runAgent(config, overrides, stop, version));
    run
        .option(SUPERVISE, 'run below a supervisor, which starts it again when it dies: production does not notice. Not needed under systemd')
        .hook('preAction', async (command) => {
        if (command.opts().supervise === true)
            await daemons.supervise(SUPERVISE);
    });
    examples(run, [
        ['afterimage agent run', 'with /etc/afterimage/agent.toml'],
        ['afterimage agent run --config ./agent.toml --log-level debug', 'with another, and telling more'],
        ['afterimage agent run --supervise', 'where there is no systemd'],
    ]);
    const check = addConfigcheck(agent, 'agent', surroundings, (config) => daemons.checkAgent(config));
    examples(check, [['afterimage agent configcheck --config ./agent.toml', 'before a restart']]);
}
//# sourceMappingURL=agent.js.map