/**
 * What an administrator carries from a receiver to whoever is to join it: a secret that is good for once, and the fingerprint
 * of the authority, so that it reaches nobody but that receiver.
 */
import { createHash, randomBytes } from 'node:crypto';
import { AfterimageError } from '../proto/errors.js';

const PREFIX = 'afterimage-';
export const TOKEN_SECRET_BYTES = 16;
const FINGERPRINT_BYTES = 32;
/** Tells a token that was not copied whole from one of another receiver. */
const CHECK_BYTES = 4;

export interface JoinToken {
  secret: Buffer;
  /** SHA-256 of the authority's certificate. */
  fingerprint: Buffer;
}

export function newToken(fingerprint: Buffer): JoinToken {
  return { secret: randomBytes(TOKEN_SECRET_BYTES), fingerprint };
}

/** "afterimage-" and 70 letters, digits, "-" and "_". */
export function formatToken({ secret, fingerprint }: JoinToken): string {
  const body = Buffer.concat([secret, fingerprint]);
  return PREFIX + Buffer.concat([body, checkOf(body)]).toString('base64url');
}

/** Errors: TOKEN_INVALID. The token itself is in no message: it is a secret. */
export function parseToken(text: string): JoinToken {
  const bytes = Buffer.from(text.startsWith(PREFIX) ? text.slice(PREFIX.length) : '', 'base64url');
  const body = bytes.subarray(0, TOKEN_SECRET_BYTES + FINGERPRINT_BYTES);
  const isWhole =
    bytes.length === body.length + CHECK_BYTES && body.length === TOKEN_SECRET_BYTES + FINGERPRINT_BYTES;
  if (!isWhole || !checkOf(body).equals(bytes.subarray(body.length)))
    throw new AfterimageError('TOKEN_INVALID', 'that is no token, or not all of one');
  return { secret: body.subarray(0, TOKEN_SECRET_BYTES), fingerprint: body.subarray(TOKEN_SECRET_BYTES) };
}

function checkOf(body: Buffer): Buffer {
  return createHash('sha256').update(body).digest().subarray(0, CHECK_BYTES);
}

/** As openssl and browsers print it: "AB:CD:…". */
export function formatFingerprint(fingerprint: Buffer): string {
  return fingerprint.toString('hex').toUpperCase().match(/../g)?.join(':') ?? '';
}
