import React, { useEffect, useState } from "react";
import { apiDelete, apiPost, fetchJSON } from "../api";
import { OrderTimeline } from "../components/OrderTimeline";
import { logger } from "../logger";
import type { Order } from "../types";

const TEST_CARD = "4111111111111111";

export function OrderPage({ name }: { name: string }) {
  const [order, setOrder] = useState<Order | null>(null);

  async function load() {
    var found = await fetchJSON<Order>(`/orders/${name}`);
    logger.debug("order", found.state);
    setOrder(found);
  }

  async function pay(cents: number) {
    var payment = await apiPost<string>("/payments", { order: name, card: TEST_CARD, cents });
    console.log("paid", payment);
    await load();
  }

  async function cancel() {
    var state = await apiDelete<string>(`/orders/${name}`);
    console.log("now", state);
    await load();
  }

  useEffect(() => {
    load();
  }, [name]);

  if (order === null) {
    return <p>One moment…</p>;
  }
  return (
    <main>
      <h1>{order.title}</h1>
      <p>{order.amount}</p>
      <OrderTimeline state={order.state} />
      <button type="button" onClick={() => pay(order.cents)}>
        Pay
      </button>
      {order.state === "open" && (
        <button type="button" onClick={cancel}>
          Cancel
        </button>
      )}
    </main>
  );
}
