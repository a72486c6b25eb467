/**
 * The receiver's certificate authority: who may connect is whom it has signed. Its key and certificate are one file of the
 * store, so that they are there together or not at all. The receiver's own certificate is made anew at every start.
 */
import { AfterimageError } from '../proto/errors.js';
import {
  authorityCertificate,
  certificateRequest,
  fingerprintOf,
  newSigningKey,
  readSigner,
  signRequest,
  type CertificateHolder,
  type Signer,
} from '../service/certificates.js';
import { writeDurably } from '../service/durable_file.js';
import { readKeyFile } from '../service/safe_path.js';
import { systemError } from '../service/system_errors.js';

const YEAR_MS = 365.25 * 86_400_000;
const AUTHORITY_MS = 30 * YEAR_MS;
const BLOCK = /-----BEGIN ([A-Z ]+)-----[^-]+-----END \1-----\n/g;

/** What a TLS server or client shows: PEM. */
export interface Credentials {
  certificate: string;
  key: string;
}

export class Authority {
  private constructor(
    /** PEM: what the others know it by. */
    readonly certificate: string,
    /** SHA-256 of the certificate. */
    readonly fingerprint: Buffer,
    private readonly key: string,
    private readonly signer: Signer,
  ) {}

  /** A new one, of the store with that UUID. */
  static async generate(store: string): Promise<Authority> {
    const key = await newSigningKey();
    const certificate = await authorityCertificate(key, `Afterimage ${store}`, Date.now() + AUTHORITY_MS);
    return Authority.of(certificate, key.pem);
  }

  /** On stable storage when it resolves. Errors: PERMISSION_DENIED, DISK_FULL, IO_ERROR. */
  async write(file: string): Promise<void> {
    try {
      await writeDurably(file, this.certificate + this.key);
    } catch (thrown) {
      throw systemError(thrown, file);
    }
  }

  /** Null: there is no such file. Errors: AUTHORITY_INVALID, PATH_UNSAFE, PERMISSION_DENIED, IO_ERROR. */
  static async open(file: string): Promise<Authority | null> {
    const text = await readKeyFile(file);
    if (text === null) return null;
    const blocks = new Map(Array.from(text.matchAll(BLOCK), ([block, label]) => [label, block]));
    const certificate = blocks.get('CERTIFICATE');
    const key = blocks.get('PRIVATE KEY');
    if (certificate === undefined || key === undefined)
      throw new AfterimageError('AUTHORITY_INVALID', `${file} does not hold both a certificate and a key`);
    return Authority.of(certificate, key);
  }

  /** A certificate for the key of a request (PKCS #10, DER), PEM. Errors: MESSAGE_INVALID. */
  sign(request: Uint8Array, holder: CertificateHolder, lifetimeMs: number): Promise<string> {
    return signRequest(this.signer, request, holder, Date.now() + lifetimeMs);
  }

  /** For the receiver itself. */
  async credentials(lifetimeMs: number): Promise<Credentials> {
    const key = await newSigningKey();
    const certificate = await this.sign(await certificateRequest(key), { kind: 'receiver' }, lifetimeMs);
    // Who joins knows the fingerprint of the authority alone: its certificate has to come with the first handshake.
    return { certificate: certificate + this.certificate, key: key.pem };
  }

  private static async of(certificate: string, key: string): Promise<Authority> {
    return new Authority(certificate, fingerprintOf(certificate), key, await readSigner(certificate, key));
  }
}
