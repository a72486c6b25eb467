/**
 * X.509 certificates (RFC 5280) by which receiver, hosts and operators know each other: ECDSA on P-256 with SHA-256. What a
 * certificate says is who somebody is, by a UUID; what that may do is the receiver's to say (receiver/identities.ts).
 */
import 'reflect-metadata'; // @peculiar/x509 needs it, and does not load it
import { randomBytes, webcrypto, X509Certificate as ParsedCertificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { AfterimageError } from '../proto/errors.js';
import { RECEIVER_NAME } from './tls_client.js';

type CryptoKeyPair = webcrypto.CryptoKeyPair;
type CryptoKey = webcrypto.CryptoKey;

x509.cryptoProvider.set(webcrypto);

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const SERIAL_BYTES = 16;
/** A clock that is behind that of the authority takes a new certificate all the same. */
const BACKDATED_MS = 3_600_000;
const REQUEST_BYTES_MAX = 4096;

/** Of whoever it is made out to. It never leaves the machine on which it was made. */
export interface SigningKey {
  keys: CryptoKeyPair;
  /** PKCS #8 (RFC 5958), PEM. */
  pem: string;
}

/** Whom a certificate is made out to: a receiver to clients, a host or operator, by its UUID, to a receiver. */
export type CertificateHolder =
  { kind: 'receiver' } | { kind: 'host' | 'operator'; name: string; uuid: string };

export async function newSigningKey(): Promise<SigningKey> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const der = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { keys, pem: `${x509.PemConverter.encode(der, 'PRIVATE KEY')}\n` };
}

/** A request (PKCS #10, RFC 2986, DER) to have the key signed. It names nobody: whose it is follows from how it is sent. */
export async function certificateRequest({ keys }: SigningKey): Promise<Buffer> {
  const request = await x509.Pkcs10CertificateRequestGenerator.create({ keys, signingAlgorithm: ALGORITHM });
  return Buffer.from(request.rawData);
}

/** The certificate of a new authority, PEM: signed by itself, it may sign others, which may sign none. */
export async function authorityCertificate(
  { keys }: SigningKey,
  name: string,
  untilMs: number,
): Promise<string> {
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: [{ CN: [name] }],
    notBefore: new Date(Date.now() - BACKDATED_MS),
    notAfter: new Date(untilMs),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return `${certificate.toString('pem')}\n`;
}

/** Who signs: certificate and key of an authority. */
export interface Signer {
  certificate: x509.X509Certificate;
  key: CryptoKey;
}

/** Errors: AUTHORITY_INVALID when the two are not PEM of a certificate and of the key that belongs to it. */
export async function readSigner(certificatePem: string, keyPem: string): Promise<Signer> {
  try {
    const certificate = new x509.X509Certificate(certificatePem);
    const der = x509.PemConverter.decodeFirst(keyPem);
    const key = await webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign']);
    const probe = randomBytes(SERIAL_BYTES);
    const signature = await webcrypto.subtle.sign(ALGORITHM, key, probe);
    const publicKey = (await certificate.publicKey.export(ALGORITHM, ['verify'])) as webcrypto.CryptoKey;
    if (!(await webcrypto.subtle.verify(ALGORITHM, publicKey, signature, probe)))
      throw new AfterimageError('AUTHORITY_INVALID', 'the key is not that of the certificate');
    return { certificate, key: key };
  } catch (cause) {
    if (cause instanceof AfterimageError) throw cause;
    throw new AfterimageError('AUTHORITY_INVALID', `no certificate with its key: ${String(cause)}`, {
      cause,
    });
  }
}

/** A certificate, PEM, for the key of `request` (DER). Errors: MESSAGE_INVALID when it is no request, or not signed by its key. */
export async function signRequest(
  signer: Signer,
  request: Uint8Array,
  holder: CertificateHolder,
  untilMs: number,
): Promise<string> {
  const publicKey = await requestedKey(request);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerial(),
    subject:
      holder.kind === 'receiver' ? [{ CN: ['receiver'] }] : [{ CN: [holder.name] }, { OU: [holder.kind] }],
    issuer: signer.certificate.subjectName,
    notBefore: new Date(Date.now() - BACKDATED_MS),
    // Behind the end of its authority nobody would believe it.
    notAfter: new Date(Math.min(untilMs, signer.certificate.notAfter.getTime())),
    publicKey,
    signingKey: signer.key,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      await x509.AuthorityKeyIdentifierExtension.create(signer.certificate.publicKey),
      ...(holder.kind === 'receiver'
        ? [
            new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth], true),
            new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: RECEIVER_NAME }], true),
          ]
        : [
            new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth], true),
            new x509.SubjectAlternativeNameExtension(
              [{ type: 'url', value: `urn:uuid:${holder.uuid}` }],
              true,
            ),
          ]),
    ],
  });
  return `${certificate.toString('pem')}\n`;
}

/** SHA-256 of a certificate, 32 bytes: what a token pins an authority by. */
export function fingerprintOf(certificatePem: string): Buffer {
  return Buffer.from(new ParsedCertificate(certificatePem).fingerprint256.replaceAll(':', ''), 'hex');
}

async function requestedKey(der: Uint8Array): Promise<x509.PublicKey> {
  const invalid = (cause: unknown): AfterimageError =>
    new AfterimageError('MESSAGE_INVALID', 'no certificate can be made for what was sent', { cause });
  if (der.length > REQUEST_BYTES_MAX) throw invalid(`${der.length} bytes`);
  try {
    const request = new x509.Pkcs10CertificateRequest(Uint8Array.from(der));
    // Of other kinds and lengths none was ever sent: the key goes into the certificate as it is.
    await request.publicKey.export(ALGORITHM, ['verify']);
    if (await request.verify()) return request.publicKey;
  } catch (cause) {
    throw invalid(cause);
  }
  throw invalid('its signature is wrong');
}

/** Positive, and at most 20 bytes (RFC 5280, 4.1.2.2). */
function newSerial(): string {
  const serial = randomBytes(SERIAL_BYTES);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  return serial.toString('hex');
}
