/**
 * Who this host, or this operator, is to a receiver: a key, the certificate for it, and the authority whose signature makes
 * somebody that receiver. One file, so that it is the old or the new one whatever happens, of mode 0600: it holds the key.
 */
import { X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { AfterimageError } from '../proto/errors.js';
import { writeDurably } from './durable_file.js';
import { readKeyFile } from './safe_path.js';
import { systemError } from './system_errors.js';

const VERSION = 1;
/** Of a certificate's time, when it is renewed: what remains is for a receiver that is away. */
const RENEWED_AFTER = 1 / 3;

const schema = z.object({
  version: z.literal(VERSION),
  kind: z.enum(['host', 'operator']),
  name: z.string(),
  role: z.string(),
  /** "HOST:PORT", where it joined. */
  receiver: z.string(),
  /** Of the receiver's store. */
  store: z.string(),
  /** PEM, all three. */
  authority: z.string(),
  certificate: z.string(),
  key: z.string(),
});

export type Identity = Omit<z.output<typeof schema>, 'version'>;

/** Null: there is none. Errors: IDENTITY_INVALID, PATH_UNSAFE, PERMISSION_DENIED, IO_ERROR. */
export async function readIdentity(file: string): Promise<Identity | null> {
  const text = await readKeyFile(file);
  if (text === null) return null;
  try {
    const { version, ...identity } = schema.parse(JSON.parse(text));
    void version;
    new X509Certificate(identity.certificate);
    return identity;
  } catch (cause) {
    throw new AfterimageError('IDENTITY_INVALID', `${file} does not hold an identity`, { cause });
  }
}

/** On stable storage when it resolves. Its directory must be there. Errors: PERMISSION_DENIED, DISK_FULL, IO_ERROR. */
export async function writeIdentity(file: string, identity: Identity): Promise<void> {
  try {
    await writeDurably(file, `${JSON.stringify({ version: VERSION, ...identity })}\n`);
  } catch (thrown) {
    throw systemError(thrown, file);
  }
}

/** Of its certificate, milliseconds since 1970: the end, and when it is to be renewed. */
export function validity({ certificate }: Identity): { untilMs: number; renewMs: number } {
  const { validFrom, validTo } = new X509Certificate(certificate);
  const fromMs = Date.parse(validFrom);
  const untilMs = Date.parse(validTo);
  return { untilMs, renewMs: fromMs + (untilMs - fromMs) * RENEWED_AFTER };
}
