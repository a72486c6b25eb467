/** The whole command: every verb, and what a run of it ends with. */
import { Command, CommanderError } from 'commander';
import { AfterimageError, EXIT, toAfterimageError } from '../proto/errors.js';
import { addAgent } from './agent.js';
import { addAudit } from './audit.js';
import { addCheckpoint } from './checkpoint.js';
import { addExport } from './export.js';
import { reportFailure } from './failure.js';
import { addLogin } from './login.js';
import { addReceiver } from './receiver.js';
import { addRecover } from './recover.js';
import { addStatus } from './status.js';
import { addSupportBundle } from './support_bundle.js';
import type { Surroundings } from './surroundings.js';
import { addTimeline } from './timeline.js';
import { addVerify } from './verify.js';
import { Verdict } from './verdict.js';
import { addVolume } from './volume.js';

/** Runs one command line (without node and script) and gives its exit status. Never throws: failures are reported. */
export async function run(argv: readonly string[], surroundings: Surroundings): Promise<number> {
  try {
    await buildCommand(surroundings).parseAsync(argv, { from: 'user' });
    return EXIT.ok;
  } catch (thrown) {
    if (thrown instanceof Verdict) return thrown.exit;
    const error = usageError(thrown);
    if (error === null) return EXIT.ok;
    reportFailure(error, argv.includes('--json'), surroundings);
    return error.exit;
  }
}

export function buildCommand(surroundings: Surroundings): Command {
  const program = new Command('afterimage')
    .description(
      'Continuous data protection for Linux volumes: every block write, rewindable to any single one.',
    )
    .version(surroundings.version, '--version', 'print the version')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => surroundings.stdout.write(text),
      writeErr: (text) => surroundings.stderr.write(text),
      // Reported by run(), as all failures are.
      outputError: () => undefined,
      getOutHelpWidth: () => surroundings.stdout.columns,
      getErrHelpWidth: () => surroundings.stderr.columns,
    });
  addStatus(program, surroundings);
  addTimeline(program, surroundings);
  addCheckpoint(program, surroundings);
  addExport(program, surroundings);
  addRecover(program, surroundings);
  addVolume(program, surroundings);
  addVerify(program, surroundings);
  addAgent(program, surroundings);
  addReceiver(program, surroundings);
  addLogin(program, surroundings);
  addAudit(program, surroundings);
  addSupportBundle(program, surroundings);
  return program;
}

/** Commander's errors in our words; null when --help or --version was all that was wanted. */
function usageError(thrown: unknown): AfterimageError | null {
  if (!(thrown instanceof CommanderError)) return toAfterimageError(thrown);
  if (thrown.exitCode === 0) return null;
  // A noun without a verb: its help was printed.
  if (thrown.code === 'commander.help') return new AfterimageError('USAGE', 'a verb is missing');
  return new AfterimageError('USAGE', thrown.message.replace(/^error: /, '').replaceAll('\n', ' '), {
    cause: thrown,
  });
}
