// Any path goes until the services are migrated; then tools/endpoints.py writes this file.
export type Route = string;
