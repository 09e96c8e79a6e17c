// What the services answer with.
export interface Product {
  sku: string;
  title: string;
  cents: number;
  price?: string;
}

export interface Review {
  stars: number;
  words: string;
}

export interface Cart {
  lines: string[];
  total: string;
}

export interface Order {
  order: string;
  title: string;
  amount: string;
  cents: number;
  state: "open" | "paid" | "sent" | "delivered" | "cancelled";
  lines: Record<string, number>;
}
