/** As whom this user has logged in to receivers elsewhere: a file for each, in the user's own configuration directory. */
import { chmod, mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { readIdentity, validity, writeIdentity, type Identity } from '../service/identity.js';
import { parseAddress } from '../service/settings.js';
import { systemError } from '../service/system_errors.js';
import type { Surroundings } from './surroundings.js';

type Env = Pick<Surroundings, 'env'>;

/** Where what belongs to the receiver at `address` lies (XDG Base Directory Specification). Errors: USAGE. */
export function loginFile(address: string, { env }: Env): string {
  const home = env['HOME'] ?? '';
  const configured = env['XDG_CONFIG_HOME'] ?? '';
  if (configured === '' && home === '')
    throw new AfterimageError('USAGE', 'neither HOME nor XDG_CONFIG_HOME is set');
  const base = path.isAbsolute(configured) ? configured : path.join(home, '.config');
  return path.join(base, 'afterimage', 'receivers', `${address.replaceAll(/[[\]]/g, '')}.json`);
}

/** Errors: PERMISSION_DENIED, DISK_FULL, IO_ERROR. */
export async function keepLogin(address: string, identity: Identity, surroundings: Env): Promise<string> {
  const file = loginFile(address, surroundings);
  const directory = path.dirname(file);
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await chmod(directory, 0o700);
  } catch (thrown) {
    throw systemError(thrown, directory);
  }
  await writeIdentity(file, identity);
  return file;
}

/** False: there was none. Errors: PERMISSION_DENIED, IO_ERROR. */
export async function forgetLogin(address: string, surroundings: Env): Promise<boolean> {
  const file = loginFile(address, surroundings);
  try {
    await rm(file);
    return true;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw systemError(thrown, file);
  }
}

/** Renewed, if it is time to. Errors: IDENTITY_MISSING, IDENTITY_INVALID, IDENTITY_REFUSED (it has expired). */
export async function freshLogin(
  address: string,
  surroundings: Env & Pick<Surroundings, 'now'>,
): Promise<Identity> {
  const file = loginFile(address, surroundings);
  const identity = await readIdentity(file);
  if (identity === null)
    throw new AfterimageError('IDENTITY_MISSING', `nobody has logged in to ${address} from here (${file})`);
  const { renewMs, untilMs } = validity(identity);
  const now = surroundings.now();
  if (untilMs <= now) {
    const when = new Date(untilMs).toISOString();
    throw new AfterimageError(
      'IDENTITY_REFUSED',
      `the certificate of operator ${identity.name} has expired at ${when}`,
    );
  }
  const at = parseAddress(address, 1);
  if (now < renewMs || at === null) return identity;
  try {
    // X.509 is not loaded before it is needed.
    const { renewIdentity } = await import('../service/joining.js');
    const renewed = await renewIdentity(at, identity);
    await writeIdentity(file, renewed);
    return renewed;
  } catch (thrown) {
    // It is good for a long time yet, and what is wrong the call itself will say.
    toAfterimageError(thrown);
    return identity;
  }
}
