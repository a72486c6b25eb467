/** gRPC's own health checking protocol (grpc.health.v1). Grammar: health.proto. */
import type { ServiceDefinition } from '@grpc/grpc-js';
import { method } from './method.js';

export type ServingStatus = 'UNKNOWN' | 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';
export interface HealthCheckRequest {
  /** "": the server as a whole. */
  service: string;
}
export interface HealthCheckResponse {
  status: ServingStatus;
}

const [H, Q, A] = [
  'grpc.health.v1.Health',
  'grpc.health.v1.HealthCheckRequest',
  'grpc.health.v1.HealthCheckResponse',
];
export const healthService = {
  check: method<HealthCheckRequest, HealthCheckResponse>(H, 'Check', Q, A),
  watch: method<HealthCheckRequest, HealthCheckResponse>(H, 'Watch', Q, A, true),
} satisfies ServiceDefinition;
